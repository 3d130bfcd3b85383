"""Update rules, parameter groups, and signals of the gradient."""
