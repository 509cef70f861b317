"""The golden vectors, as data: a package so that they are found wherever lossref is installed."""
