# At 6.0 the client asks for features and counts on those that it asked for and got.
case 006 007 009
side guest
option versions=6.0,5.3 features=MODIFY_CONNECTION|PAUSE_RESUME client-id=7
A> connect
G> INITIATE_CONTACT version=6.0 features=MODIFY_CONNECTION|PAUSE_RESUME|CLIENT_ID client_id=7 @size=56
G< VERSION_RESPONSE supported=1 selected=1 features=0xB1
A< done op=connect
G> REQUEST_OFFERS
= connected 6.0
= features PAUSE_RESUME
A> modify_connection page1=0x1000 page2=0x2000
A< error op=modify_connection kind=UsageError
G> silence
