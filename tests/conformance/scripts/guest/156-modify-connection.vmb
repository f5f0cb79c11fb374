# Monitor pages are changed one request at a time; a refusal is told with its state.
case 156
side guest
version 6.0 features=MODIFY_CONNECTION
A> modify_connection page1=0x1000 page2=0x2000
G> MODIFY_CONNECTION page1=0x1000 page2=0x2000
A> modify_connection
A< error op=modify_connection kind=UsageError
G< MODIFY_CONNECTION_RESPONSE state=0
A< done op=modify_connection
A> modify_connection page1=0x1000
G> MODIFY_CONNECTION page1=0x1000 page2=0
G< MODIFY_CONNECTION_RESPONSE state=2
A< error op=modify_connection text="state 2"
G< MODIFY_CONNECTION_RESPONSE state=0
= refused 1
