# A connect that nobody takes: a guest from 4.1 on is told, an older one is not.
case 189
version 4.1
G> TL_CONNECT_REQUEST endpoint=0x11 service=0x22
G< TL_CONNECT_RESULT endpoint=0x11 service=0x22 status=REFUSED @size=44
G> INITIATE_CONTACT version=4.0
G< VERSION_RESPONSE supported=1
G> TL_CONNECT_REQUEST endpoint=0x11 service=0x22
G< silence
