# Closed, opening, closing, rescinded or unknown: the answer is a failure with the relid that was asked.
case 145
version 5.3
offer
gpadl
G> MODIFY_CHANNEL relid=1 vp=1
G< MODIFY_CHANNEL_RESPONSE relid=1 status=UNSUCCESSFUL
G> OPEN_CHANNEL relid=1
H< open relid=1
G> MODIFY_CHANNEL relid=1 vp=1
G< MODIFY_CHANNEL_RESPONSE relid=1 status=UNSUCCESSFUL
H> done
G< OPEN_RESULT status=OK
G> CLOSE_CHANNEL relid=1
H< close relid=1
G> MODIFY_CHANNEL relid=1 vp=1
G< MODIFY_CHANNEL_RESPONSE relid=1 status=UNSUCCESSFUL
H> done
G> MODIFY_CHANNEL relid=99 vp=1
G< MODIFY_CHANNEL_RESPONSE relid=99 status=UNSUCCESSFUL
H< silence
