"""The web application for people: pages over the readers that the command line uses."""
