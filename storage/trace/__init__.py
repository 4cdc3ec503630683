"""Records of what real runs selected, for replay: an Arrow file that plain pyarrow opens too."""
