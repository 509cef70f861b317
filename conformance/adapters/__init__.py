"""The known backends, one file each; see `conformance.adapter` for what such a file declares."""
