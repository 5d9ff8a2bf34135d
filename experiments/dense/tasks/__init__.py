"""The three tasks, each as the runtime trains and tests it."""
