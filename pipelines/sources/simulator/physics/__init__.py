"""How each type of machine turns demand into measured quantities; one type a file.

Every quantity is worked out in rated units (1.0 = nameplate) and multiplied by the machine's ratings at the end. The
constants are round numbers typical of small plants, not of one make; the laws (affinity laws, pump and fan curves,
first-order heat balance, polytropic compression, conveyor force balance) are those of any textbook.
"""
