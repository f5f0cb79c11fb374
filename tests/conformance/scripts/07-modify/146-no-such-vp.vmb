# A VP that does not exist, or none at all, cannot be chosen; the old one stays.
case 146 148
option vps=2
version 5.3
offer
open relid=1 vp=1
G> MODIFY_CHANNEL relid=1 vp=NONE
G< MODIFY_CHANNEL_RESPONSE relid=1 status=UNSUCCESSFUL
G> MODIFY_CHANNEL relid=1 vp=2
G< MODIFY_CHANNEL_RESPONSE relid=1 status=UNSUCCESSFUL
H< silence
= channel 1 open vp=1
