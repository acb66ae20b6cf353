"""Who is who: keys and certificates, and how they are kept."""
