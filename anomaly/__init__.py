"""The core of plantwatch: windows, scoring, detection. No network, files, clock or Keras is loaded by importing it."""
