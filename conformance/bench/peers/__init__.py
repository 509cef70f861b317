"""The peers, one file for each library that they call."""
