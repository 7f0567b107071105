import KDStudio
import SwiftUI

/// All pictures that were drawn.
struct GalleryView: View {
    /// Goes to where pictures are drawn.
    let showDrawing: @MainActor () -> Void

    @Environment(Studio.self) private var studio

    private let columns = [GridItem(.adaptive(minimum: 110))]

    var body: some View {
        ScrollView {
            LazyVGrid(columns: columns) {
                ForEach(studio.items) { item in
                    NavigationLink {
                        GalleryDetailView(item: item, showDrawing: showDrawing)
                    } label: {
                        ThumbnailView(item: item)
                    }
                }
            }
            .padding()
        }
        .overlay {
            if studio.items.isEmpty {
                ContentUnavailableView(
                    "No pictures", systemImage: "photo.on.rectangle",
                    description: Text("What you draw is kept here."))
            }
        }
        .navigationTitle("Gallery")
    }
}
