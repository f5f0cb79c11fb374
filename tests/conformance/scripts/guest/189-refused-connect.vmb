# A socket connect that the host refuses, and one that nobody answers.
case 189 195
side guest
version 5.3
A> connect_socket endpoint=1 service=9
G> TL_CONNECT_REQUEST endpoint=1 service=9 @size=40
A> connect_socket endpoint=1 service=9
A< error op=connect_socket kind=UsageError
G< TL_CONNECT_RESULT endpoint=2 service=9 status=REFUSED
= refused 1
G< TL_CONNECT_RESULT endpoint=1 service=9 status=REFUSED
A< error op=connect_socket kind=RefusedError text=0xc0000236
A> connect_socket endpoint=1 service=9
G> TL_CONNECT_REQUEST endpoint=1 service=9
T+ 5s
A< error op=connect_socket text="nobody answered"
