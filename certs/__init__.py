"""Keys and certificates of machines and people: how they are made, renewed and kept."""
