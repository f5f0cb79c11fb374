# The answer ends the wait; a guest that crashes without a connection waits for nothing.
case 172
side guest
version 5.3
A> crash
G> UNLOAD
T+ 50s
G< UNLOAD_COMPLETE
A< done op=crash
= disconnected
A> crash
A< done op=crash
G> silence
T+ 100s
G> silence
