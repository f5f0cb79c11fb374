# 120 bytes of user data reach the device as they are.
case 068
version 5.3
offer
gpadl
G> OPEN_CHANNEL relid=1 user_data=01ff*59aa*60
H< open relid=1 user_data=01ff*59aa*60
H> done(0)
G< OPEN_RESULT status=OK
