"""What crosses the line between server and client: the task, the reply, and the facts that both know."""
