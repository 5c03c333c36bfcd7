"""`matting doctor`: checks of this machine and of every service that it uses."""
