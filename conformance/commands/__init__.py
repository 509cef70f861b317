"""The commands of `lossref`, one file each: its arguments, then what it does."""
