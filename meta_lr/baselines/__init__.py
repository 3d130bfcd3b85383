"""The methods to compare with, and controllers made of controllers."""
