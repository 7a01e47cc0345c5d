"""`make bench`: figures that tell, as ratios of two things run in turn on one machine."""
