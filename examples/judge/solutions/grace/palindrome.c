#include <stdio.h>
#include <string.h>

int main(void) {
    char word[100];
    scanf("%99s", word);
    for (int i = 0, j = strlen(word) - 1; i != j; i++, j--)
        if (word[i] != word[j]) {
            puts("no")
            return 0;
        }
    puts("yes");
}
