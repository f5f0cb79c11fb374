# Messages that came later are refused at older versions.
case 021 188
G> INITIATE_CONTACT version=3.0
G< VERSION_RESPONSE supported=1
G> OPEN_RESERVED relid=1
G> TL_CONNECT_REQUEST
G> MODIFY_CHANNEL relid=1
= refused 3
G> INITIATE_CONTACT version=4.0
G< VERSION_RESPONSE supported=1
G> MODIFY_CHANNEL relid=1
G> MODIFY_CONNECTION
G> PAUSE
= refused 6
= connected 4.0
