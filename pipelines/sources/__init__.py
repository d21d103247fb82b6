"""Where readings come from: folders of files, and the simulated plant."""
