# Nothing to do is done at once, and several callers are answered together.
case 168
reset
B< ResetDone callers=1
= disconnected
