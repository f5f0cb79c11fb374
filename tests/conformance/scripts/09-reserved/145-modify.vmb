# A reserved channel has no interrupts to move.
case 145
version 5.3
offer
gpadl
G> OPEN_RESERVED relid=1 vp=0 sint=3
H< open relid=1
H> done
G< OPEN_RESULT relid=1
G> MODIFY_CHANNEL relid=1 vp=1
G< MODIFY_CHANNEL_RESPONSE relid=1 status=UNSUCCESSFUL
