"""The yard: many scenarios at once, and what people see of them."""
