"""Run by Streamlit on every visit."""

from dashboard.app import main

main()
