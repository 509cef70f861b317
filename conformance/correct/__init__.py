"""Right kernels, each written on its own, with the promise that its code makes true: no bound may accuse them."""
