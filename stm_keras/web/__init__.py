"""Pages in the browser, served on this computer: of `stm-keras watch`."""
