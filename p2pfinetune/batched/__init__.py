"""Many adapters on one base in one pass: training together and scoring together, with the numbers of one by one."""
