"""The paper's populations: which texts, dealt to which peers, under which settings."""
