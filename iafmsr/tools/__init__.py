"""What is done with networks beside training them: each command in its own folder or module."""
