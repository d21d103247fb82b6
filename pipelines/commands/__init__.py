"""One module per command of `plantwatch`; `pipelines/cli.py` joins them."""
