"""From a data set to scores: `evaluate` goes through the images, `metrics` names what compares them, or judges one."""
