#= 2:20: unknown attribute '@con'
G> REQUEST_OFFERS  @con=4
