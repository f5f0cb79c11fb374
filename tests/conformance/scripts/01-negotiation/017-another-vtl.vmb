# A contact for the server of another VTL is handed over; this bus does nothing with it.
case 017
option linked-vtls=2
G> INITIATE_CONTACT version=5.1 vtl=2 @connection=4
B< ForwardContact vtl=2
G< silence
= disconnected
= refused 0
G> INITIATE_CONTACT version=5.1 vtl=1 @connection=4
= refused 1
G> INITIATE_CONTACT version=5.0 vtl=2 @connection=4
G< VERSION_RESPONSE supported=1
