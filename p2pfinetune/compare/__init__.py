"""Many simulations side by side: the plan, the sweep, and its tables and plots."""
