import KDStudio
import SwiftUI

/// The picture that comes into being, or the one that was drawn last.
struct CanvasView: View {
    @Environment(Studio.self) private var studio

    var body: some View {
        VStack {
            if let preview = studio.preview {
                PictureView(picture: preview)
                    .accessibilityLabel("Preview of the picture")
            } else if let item = studio.latest.first {
                StoredPictureView(item: item)
                    .opacity(studio.phase.isBusy ? 0.4 : 1)
                ShareLink(item: studio.gallery.picture(of: item))
            } else {
                Image(systemName: "photo")
                    .font(.largeTitle)
                    .foregroundStyle(.secondary)
                    .accessibilityLabel("No picture yet")
                    .padding()
            }
        }
        .frame(maxWidth: .infinity)
    }
}
