"""What crosses the line between server and client: tasks, replies, and facts that both know."""
