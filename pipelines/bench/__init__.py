"""`plantwatch bench stream`: what a row costs on its way, measured where it goes. Nothing here serves a plant."""
