# What is dropped while it is being opened is closed as soon as it is open.
case 080
side guest
version 5.3
offer relid=5
A> open relid=5
G> GPADL_HEADER relid=5
A> drop relid=5
G> silence
G< GPADL_CREATED relid=5
G> OPEN_CHANNEL relid=5
G< OPEN_RESULT relid=5
A< done op=open
G> CLOSE_CHANNEL relid=5
G> GPADL_TEARDOWN relid=5
