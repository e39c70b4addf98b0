"""What can be looked at: listings, figures, pictures, versions side by side."""
