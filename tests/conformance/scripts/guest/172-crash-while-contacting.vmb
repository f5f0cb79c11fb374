# Before a version is agreed on there is nothing to unload.
case 172
side guest
option versions=5.3
A> connect
G> INITIATE_CONTACT
A> crash
A< error op=connect
A< done op=crash
= disconnected
