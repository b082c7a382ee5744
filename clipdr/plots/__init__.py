"""One module per figure; see clipdr.figures."""
