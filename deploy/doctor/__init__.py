"""`matting doctor`: checks of this machine and of every service it talks to."""
