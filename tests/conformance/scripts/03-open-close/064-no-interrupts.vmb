# A channel without interrupts opens like any other and can not be given a VP later.
case 064 147
version 5.3
offer
gpadl
G> OPEN_CHANNEL relid=1 vp=NONE
H< open relid=1 vp=0xFFFFFFFF
H> done(0)
G< OPEN_RESULT relid=1 status=OK
= channel 1 open vp=NONE
G> MODIFY_CHANNEL relid=1 vp=1
G< MODIFY_CHANNEL_RESPONSE relid=1 status=UNSUCCESSFUL
H< silence
