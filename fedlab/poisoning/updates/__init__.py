"""Update attacks: changes of a client's update before it is sent, each in a file of its own."""
