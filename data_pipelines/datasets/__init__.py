"""The published data sets, a folder each: what is known of it, its TFDS builder, and the test of both."""
