# With a silo the long form is sent.
case 191
side guest
version 5.2
A> connect_socket endpoint=1 service=9 silo=4
G> TL_CONNECT_REQUEST endpoint=1 service=9 silo=4 @size=56
