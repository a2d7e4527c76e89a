"""What the project makes of itself: stubs, pages, figures, constraints."""
