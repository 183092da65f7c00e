numbers = input().split()
print(sum(int(number) for number in numbers))
