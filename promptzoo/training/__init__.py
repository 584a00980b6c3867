"""Floor 6: training of promptable networks with a simulated annotator (ignite engines through MONAI)."""
