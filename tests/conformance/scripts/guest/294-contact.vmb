# A host that does not know connection 4 fails the contact at once: the next version is asked.
case 294
side guest
option versions=5.3,4.1
port closed
A> connect
A< error op=connect
= disconnected
port ready
A> connect
G> INITIATE_CONTACT version=5.3 @connection=4
